"""The embedded deployment: real servers on loopback that speak the service's wire and really train and sample."""
