"""Measurements that anyone can repeat: each program writes its rounds as JSON, `report.py` makes the page of them."""
