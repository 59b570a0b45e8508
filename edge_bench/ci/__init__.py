"""What runs in a pull request: a workflow and a policy for the files of a project."""
