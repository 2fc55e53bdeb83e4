#!/bin/sh
# Gives functions of one name in two modules names that tell them apart: the second one is named after its module.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

twins=$(awk -f "$here/twins.awk" src/*.rs)
if [ -z "$twins" ]; then
    echo "every function has a name of its own"
    exit 0
fi

echo "$twins" | while read -r name first second; do
    new="${name}_for_$(basename "$second" .rs)"
    # Calls and the definition: the name as a whole word before a parenthesis.
    sed "s/^$name(/$new(/; s/\\([^a-z_0-9.:]\\)$name(/\\1$new(/g" "$second" > "$second.new"
    mv "$second.new" "$second"
    echo "$name of $second is now $new; $first keeps the name"
done

# What does not build is not proposed; warnings are for others to mend.
if ! said=$(cargo check --quiet --offline --all-targets 2>&1); then
    echo "$said" >&2
    exit 1
fi
