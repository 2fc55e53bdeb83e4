#!/bin/sh
# Keeps one of two functions that stand word for word in two modules, and uses it from the other module.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

twins=$(awk -f "$here/twins.awk" src/*.rs)
if [ -z "$twins" ]; then
    echo "no function stands twice"
    exit 0
fi

echo "$twins" | while read -r name first second; do
    module=$(basename "$first" .rs)
    sed "s/^fn $name\\([(<]\\)/pub(crate) fn $name\\1/" "$first" > "$first.new"
    mv "$first.new" "$first"

    awk -v name="$name" -v import="use crate::$module::$name;" '
        { text[NR] = $0 }
        index($0, "fn " name "(") == 1 || index($0, "fn " name "<") == 1 { first = NR }
        first && !last && /^}/ { last = NR }
        !top && /^use / { top = NR }
        END {
            while (first > 1 && text[first - 1] ~ /^(\/\/\/|#\[)/) first--
            if (last < NR && text[last + 1] == "") last++
            if (!top) for (top = 1; text[top] ~ /^\/\/!/ || text[top] == ""; top++) {}
            for (i = 1; i <= NR; i++) {
                if (i == top) print import
                if (i < first || i > last) print text[i]
            }
        }
    ' "$second" > "$second.new"
    mv "$second.new" "$second"
    echo "$second now uses $name of $first"
done

# What does not build is not proposed; warnings are for others to mend.
if ! said=$(cargo check --quiet --offline --all-targets 2>&1); then
    echo "$said" >&2
    exit 1
fi
