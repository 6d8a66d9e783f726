"""The clients of the namespace and their futures, where scripts import them from."""

from loops_sdk_sync.tinker.lib.public_interfaces.api_future import APIFuture
from loops_sdk_sync.tinker.lib.public_interfaces.rest_client import RestClient
from loops_sdk_sync.tinker.lib.public_interfaces.sampling_client import BackcompatSamplingClientFuture, SamplingClient
from loops_sdk_sync.tinker.lib.public_interfaces.service_client import ServiceClient
from loops_sdk_sync.tinker.lib.public_interfaces.training_client import BackcompatTrainingClientFuture, TrainingClient

__all__ = [
    "APIFuture",
    "BackcompatSamplingClientFuture",
    "BackcompatTrainingClientFuture",
    "RestClient",
    "SamplingClient",
    "ServiceClient",
    "TrainingClient",
]
