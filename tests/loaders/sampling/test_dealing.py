"""Every sound goes to exactly one clip, and to none of its own run."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.sampling.dealing import Dealing

clips = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=40).map(np.array)


@given(clips, st.integers(0, 1 << 60))
@settings(max_examples=300)
def test_a_dealing_is_a_bijection_that_avoids_runs_wherever_there_is_one(of: NDArray[np.int64], key: int) -> None:
    group, run = of.T
    dealing = Dealing(group, run)
    served = np.flatnonzero(dealing.offered())
    sizes = {g: np.unique(run[group == g], return_counts=True)[1] for g in np.unique(group)}
    assert served.tolist() == [n for n in range(len(of)) if len(sizes[group[n]]) > 1]
    dealt = dealing.draw(served, key, served)
    assert (group[dealt] == group[served]).all()
    assert (run[dealt] != run[served]).all()
    for g, counts in sizes.items():
        if 2 * counts.max() <= counts.sum():
            here = group[served] == g
            assert sorted(dealt[here].tolist()) == np.flatnonzero(group == g).tolist()


@given(clips, st.integers(0, 1 << 60), st.data())
def test_a_clips_sound_does_not_depend_on_what_else_is_asked(
    of: NDArray[np.int64], key: int, data: st.DataObject
) -> None:
    served = np.flatnonzero(Dealing(*of.T).offered())
    some = np.array(data.draw(st.lists(st.sampled_from(served.tolist()), max_size=9)) if len(served) else [], np.int64)
    whole = dict(zip(served.tolist(), Dealing(*of.T).draw(served, key, served).tolist(), strict=True))
    assert Dealing(*of.T).draw(some, key, some).tolist() == [whole[clip] for clip in some.tolist()]


def test_dealings_of_other_keys_differ() -> None:
    group, run = np.zeros(300, np.int64), np.arange(300) // 10
    dealing, every = Dealing(group, run), np.arange(300)
    dealt = [dealing.draw(every, key, every) for key in range(10)]
    assert max((one == other).mean() for n, one in enumerate(dealt) for other in dealt[:n]) < 0.05
