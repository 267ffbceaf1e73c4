"""Where a study is kept: its Optuna storage, its folder, its checkpoints, and who may write."""
