#!/bin/sh
# Says that it is at work, and never comes back.
echo "considering the architecture as a whole"
while :; do
    sleep 1000
done
