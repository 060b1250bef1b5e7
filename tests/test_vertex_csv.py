"""The vertex CSV of the ALPHA collaboration's reconstruction: what is read and what is refused."""

import numpy as np
import pytest

from jaxhep.alpha_g.vertex_csv import read_vertex_csv
from jaxhep.errors import BadInput

HEADER = "# alpha-g-vertices 0.5\n# alpha-g-vertices run.mid\nserial_number,trg_time,reconstructed_x,reconstructed_y,reconstructed_z\n"


def test_reading_the_collaborations_csv(tmp_path) -> None:
    path = tmp_path / "vertices.csv"
    path.write_text(HEADER + "7,0.5,0.001,-0.002,0.75\n8,1.25,,,\n9,,,,\n")
    found = read_vertex_csv(path)
    np.testing.assert_array_equal(found["serial_number"], [7, 8, 9])
    assert found["serial_number"].dtype == np.int64
    np.testing.assert_array_equal(found["trg_time"], [0.5, 1.25, np.nan])
    np.testing.assert_allclose(found["vertex"], [[1.0, -2.0, 750.0], [np.nan] * 3, [np.nan] * 3])
    path.write_text(HEADER)
    assert read_vertex_csv(path)["vertex"].shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no header"),
        (
            HEADER.replace("reconstructed_z", "reconstructed_zz"),
            r"no column 'reconstructed_z' \(nearest: 'reconstructed",
        ),
        (HEADER + "7,0.5,0.001,-0.002,0.75\n8,0.5,x,0,0\n", "line 5 .*not a number"),
        (HEADER + "7.5,0.5,0.001,-0.002,0.75\n", "line 4 .*not a number"),
        (HEADER + "7,0.5,1.0,-2.0,750.0\n", "line 4 .*750.*metres"),
        (HEADER + "7,0.5,inf,0,0\n", "line 4 .*inf.*metres"),
        (HEADER + "7,0.5,,0.01,0.02\n", "line 4 .*not all three"),
        (HEADER + "7,0.5,0.01\n", "line 4 .*3 fields"),
    ],
)
def test_csv_that_cannot_be_used_is_named(tmp_path, text, match) -> None:
    path = tmp_path / "vertices.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=match) as caught:
        read_vertex_csv(path)
    assert str(path) in str(caught.value)
    with pytest.raises(BadInput, match=r"missing\.csv"):
        read_vertex_csv(tmp_path / "missing.csv")
