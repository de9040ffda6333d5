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
    read_seconds: float  #: all reading threads' time together in drawing, reading, checking and replacing
    check_seconds: float  #: of these, reading and checking, waits for remote shards included: high, the disk is slow
    read_blocked: float  #: seconds a read batch waited for room, later ones behind it: high is good, reading runs ahead
    decode_seconds: float  #: the decoding thread's time in the decoder, waiting for input included
    decode_blocked: float  #: seconds the decoding thread waited for room: high is good, the consumer is the slow side
    bytes: int  #: bytes of clips read and checked
    cache_hits: int  #: times that a remote shard was taken up and was on the disk already
    fetched_shards: int  #: remote shards fetched by this rank
    fetched_bytes: int  #: bytes of these
    fetch_retries: int  #: attempts that failed and were made again
    fetch_wait: float  #: seconds that reading threads waited for remote shards: high, the network is the slow side
    damaged_shards: (
        int  #: cached shards thrown away and fetched again: their file was cut short or its bytes had changed
    )
    bad_clips: int  #: different clips whose bytes were not those written
    substitutions: int  #: examples that took the place of bad ones
    searched: int  #: filmstrips whose frames were searched for, as their header does not say where they lie, or falsely
    decoder: str  #: of filmstrips: "gpu" or "cpu", DALI's on either, or "turbo", without it; "" before the first batch
    decoder_reason: str  #: why that: as asked for, what was measured, or why another cannot
    cpu_trial: float  #: clips/s that the CPU decoded when the two were tried; 0 where it was not
    gpu_trial: float  #: the same of the GPU

    @property
    def clips_per_second(self) -> float:
        """Examples yielded a second, the consumer's own time included."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the time since the first batch that the consumer waited."""
        return self.data_wait / self.seconds if self.seconds else 0.0
