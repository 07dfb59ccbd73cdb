import numpy as np
import pytest

from tests.kit import parameter_id


def test_parameters_are_named_by_their_content() -> None:
    assert parameter_id({"size": 16, "settings": ("a=1", "b=2")}, "changes") == "size=16 settings=a=1,b=2"
    assert parameter_id([(0, 255, 0), None], "colours") == "0,255,0 None"
    assert parameter_id((), "settings") == "none"


def test_what_pytest_names_itself_is_left_to_it() -> None:
    assert [
        parameter_id(value, "x") for value in (None, True, 1.5, "text", b"bytes", pytest.approx, dict)
    ] == [None] * 7


@pytest.mark.parametrize(
    "value", [np.zeros(2), lambda: 0, object(), [np.zeros(2)], {"long": "x" * 100}], ids=type
)
def test_what_has_no_readable_name_stops_the_collection(value: object) -> None:
    with pytest.raises(pytest.UsageError, match="of 'value' has no readable id"):
        parameter_id(value, "value")
