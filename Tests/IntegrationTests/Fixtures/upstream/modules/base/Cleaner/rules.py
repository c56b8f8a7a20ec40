import os


def clean(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            print(name, os.path.getsize(os.path.join(path, name)))
