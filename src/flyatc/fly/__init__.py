"""The Fly platform: this machine's environment, private DNS, Machines API and local API."""
