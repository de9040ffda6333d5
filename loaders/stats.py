"""Where a loader's time goes, in numbers that say how to read them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderStats:
    """Counted since the loader was made, on this rank."""

    clips: int  #: examples yielded
    first_batch: float  #: seconds from asking for the first batch to having it: starting up, counted nowhere else
    seconds: float  #: since the first batch was there
    data_wait: float  #: seconds of these the consumer waited for a batch: over 1 %, the run is bound by data
    decoded_depth: float  #: decoded batches at hand when one was asked for, mean: close to 0, decoding is the slow side
    read_depth: float  #: read batches at hand when the decoder asked, mean: close to 0, reading is the slow side
    read_seconds: float  #: the reading thread's time in drawing, reading and checking
    read_blocked: float  #: seconds the reading thread waited for room: high is good, it runs ahead
    decode_seconds: float  #: the decoding thread's time in DALI, waiting for input included
    decode_blocked: float  #: seconds the decoding thread waited for room: high is good, the consumer is the slow side
    bytes: int  #: bytes of clips read and checked
    cache_hits: int  #: times that a remote shard was taken up and was on the disk already
    fetched_shards: int  #: remote shards fetched by this rank
    fetched_bytes: int  #: bytes of these
    fetch_retries: int  #: attempts that failed and were made again
    fetch_wait: float  #: seconds the reading thread waited for remote shards: high, the network is the slow side
    bad_clips: int  #: different clips whose bytes were not those written
    substitutions: int  #: examples that took the place of bad ones

    @property
    def clips_per_second(self) -> float:
        """Examples yielded a second, the consumer's own time included."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the time since the first batch that the consumer waited."""
        return self.data_wait / self.seconds if self.seconds else 0.0
