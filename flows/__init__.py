"""The sync as a Prefect flow: ``flows.sync_dataverse`` is the flow, ``flows.blocks`` holds its credentials."""
