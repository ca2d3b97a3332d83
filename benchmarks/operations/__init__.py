"""Operations to time, each in fnn and in PyTorch."""
