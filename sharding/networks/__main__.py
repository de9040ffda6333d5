"""``python -m sharding.networks``."""

from sharding.networks.command import main

if __name__ == "__main__":
    main()
