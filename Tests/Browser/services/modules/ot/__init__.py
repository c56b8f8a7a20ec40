import os

from dcm_processor import artifact, progress


def repeat(jobName, headers, params, added_params, **kwargs):
    """Puts what stands in the image wherever a job can put text. No real service may: logs and errors are no places for it."""
    tags = headers["studies"][0]["series"][0]["tags"]
    said = [tags["PatientName"], tags["SeriesDescription"]]
    for text in said:
        print(text, flush=True)
    # Ten thousand characters without a space.
    print("W" * 10_000, flush=True)
    path = os.path.join(os.environ["DATA"], headers["dcmpath"], "said.txt")
    with open(path, "w") as file:
        file.write(said[0])
    artifact(path, name=said[0])
    progress(0.5, said[0])
    raise ValueError(" | ".join(said) + " | " + "W" * 10_000)
