"""From utterances to shards to a dataset: plans, clips, tars, receipts, catalogs; here and in object stores."""
