"""The examples of the documents about Prefect 0.x's environments, as modules of their own."""
