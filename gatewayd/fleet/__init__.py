"""What a person asks once about many gateways."""
