#!/bin/bash

echo "installing" > "$LOGS/script.txt"
