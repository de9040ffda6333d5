"""What is trained: what every task has, one file a task, and by which stages of train.py they are known."""
