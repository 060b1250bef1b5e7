"""AMS-02 electromagnetic calorimeter: geometry, features, simulation, data sets."""
