"""``python -m sharding.gaze TABLE``: the gaze statistics of an OpenFace 2 table."""

from sharding.gaze.statistics import main

if __name__ == "__main__":
    main()
