"""What users call: the clients of service, trainer and sampler."""
