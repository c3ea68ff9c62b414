"""What a release consists of, made from the checkout: the Helm chart's generated half, install.yaml, and the files of dist/."""
