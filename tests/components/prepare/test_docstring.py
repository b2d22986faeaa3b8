"""A docstring taken apart: what is asked, what is kept, what See Also names."""

import inspect

import pytest

from components.prepare.docstring import plain_text, split_docstring

NUMPYDOC = """
    Solve a system of linear equations. It must be square.

    The solution is found by *LU* decomposition, see :func:`lu_factor` and `the notes`.

    .. versionadded:: 1.4.0

    Parameters
    ----------
    a : (M, M) array_like
        Coefficient matrix.

    See Also
    --------
    inv : Invert a matrix.
    lstsq, pinv
    scipy.linalg.solve_banded : Solve a banded system,
        which is faster.
    :class:`~numpy.matrix` : A matrix.

    Notes
    -----
    Solve a system of linear equations. Badly scaled systems lose digits [1]_.

    References
    ----------
    .. [1] Golub and Van Loan.

    Examples
    --------
    >>> solve([[3]], [9])
    array([3.])
    """


def test_a_numpydoc_docstring_gives_summary_body_and_references() -> None:
    parts = split_docstring(inspect.cleandoc(NUMPYDOC))
    assert parts.summary == "Solve a system of linear equations"
    assert parts.body == (
        "It must be square. The solution is found by *LU* decomposition, see lu_factor and the notes. "
        "Parameters a : (M, M) array_like Coefficient matrix. Notes Badly scaled systems lose digits ."
    )
    assert parts.see_also == ("inv", "lstsq", "pinv", "scipy.linalg.solve_banded", "numpy.matrix")


@pytest.mark.parametrize(
    ("text", "summary", "body"),
    [
        ("", "", ""),
        ("Only a summary.", "Only a summary", ""),
        ("A summary over\ntwo lines.\n\nBody.", "A summary over two lines", "Body."),
        ("First sentence of two.  Second one.", "First sentence of two", "Second one."),
        ("conv2d(input, weight) -> Tensor\n\nApplies a convolution.\n\nMore.", "Applies a convolution", "More."),
        ("Read version 3.11 files.\n\nBody.", "Read version 3.11 files", "Body."),
        ("Google style.\n\nArgs:\n    x: A number.\n", "Google style", "Args: x: A number."),
    ],
    ids=["empty", "summary only", "wrapped", "two sentences", "signature first", "dot in a number", "google"],
)
def test_the_summary_is_the_first_sentence_and_the_body_the_rest(text: str, summary: str, body: str) -> None:
    parts = split_docstring(text)
    assert (parts.summary, parts.body) == (summary, body)


def test_the_summary_is_taken_out_of_the_body_whatever_its_case() -> None:
    assert split_docstring("Flatten an array.\n\nNotes: FLATTEN AN ARRAY. Then copy it.").body == "Notes: Then copy it."


def test_a_doctest_goes_with_its_output() -> None:
    assert plain_text("Before\n>>> f(\n...     1)\n{'a': 1}\n\nafter") == "Before after"
