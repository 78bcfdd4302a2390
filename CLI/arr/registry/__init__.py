"""Images by name and digest: the OCI Distribution API, the embedded registry, the kept records."""
