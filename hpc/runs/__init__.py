"""What libraries with long runs share: checkpoints and their storage, results, configuration, callbacks."""
