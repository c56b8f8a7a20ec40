import os

DATA = os.getenv("DATA")
HERE = os.path.dirname(os.path.realpath(__file__))


def worker(jobName, headers, params, added_params, **kwargs):
    handed = added_params.get(jobName)
    outputs = handed.get("outputs", {"": {"nifti": {"path": handed.get("output"), "base": handed.get("base")}}})
    for series, output in outputs.items():
        os.system(f"mkdir -p {os.path.join(DATA, output['nifti']['base'])}")
        source = os.path.join(DATA, headers.get("dcmpath"), series)
        os.system(f"sh {HERE}/count.sh {source} > {os.path.join(DATA, output['nifti']['path'])}")
