"""The Kubernetes API, spoken raw: JSON pages, streams and dry-runs over urllib3, credentials by the kubernetes package."""
