"""What is to be said of a build that saw hardly any face."""

from collections.abc import Mapping

NO_FACE = "no_face"  #: why an utterance, or a clip, is left out in which no face is seen
TAKE_CENTRE = "--crop centre, which takes the middle of every picture"


def is_faceless(rejected: Mapping[str, int], utterances: int) -> bool:
    """Whether more than half of the utterances were rejected because no face is seen in them.

    Args:
        rejected: how many, by reason.
        utterances: kept or rejected, all together.
    """
    return 2 * rejected.get(NO_FACE, 0) > utterances


def faceless_line(rejected: Mapping[str, int], utterances: int) -> str | None:
    """A line for a person; None where faces were seen.

    Args:
        rejected: how many, by reason.
        utterances: kept or rejected, all together.
    """
    if not is_faceless(rejected, utterances):
        return None
    return (
        f"in {rejected[NO_FACE]} of {utterances} utterances no face is seen: if there are some, drawn or unusual ones, "
        f"build with {TAKE_CENTRE}"
    )
