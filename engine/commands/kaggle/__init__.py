"""``kaggle …``: a run on Kaggle. One module a command, or a few that belong together."""
