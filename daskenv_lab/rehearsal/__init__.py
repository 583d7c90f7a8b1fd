"""An AWS account on this machine: moto answers the API, and ECS tasks run as processes."""
