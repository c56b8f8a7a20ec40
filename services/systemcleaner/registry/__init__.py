def callback(jobName, headers, params, added_params, **kwargs):
    """Every run has images of its own to delete."""
    return True
