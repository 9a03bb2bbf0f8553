"""From a plan to the files that carry it: the kustomize component, the kubectl script, the words of the pull request."""
