"""Clusters in AWS Fargate and ECS: nothing but tagged tasks, beside one shared set of resources."""
