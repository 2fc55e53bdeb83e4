#!/bin/sh
# Removes the functions that the compiler reports as never used, each with its comments and attributes.
set -eu

found=$(cargo check --quiet --offline --all-targets --message-format short 2>&1 |
    sed -n 's/^\(.*\.rs\):\([0-9][0-9]*\):[0-9]*: warning: .*function `\([^`]*\)` is never used.*$/\1 \2 \3/p' |
    sort -u -k1,1 -k2,2nr)
if [ -z "$found" ]; then
    echo "every function is used"
    exit 0
fi

# From the bottom of each file upwards, so that the lines above keep their numbers.
echo "$found" | while read -r file line name; do
    awk -v target="$line" '
        # The depth of braces, not counting those within strings, characters and comments.
        function depth_of(text,    i, c, rest, change) {
            change = 0
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                rest = substr(text, i)
                if (in_string) {
                    if (c == "\\") i++
                    else if (c == "\"") in_string = 0
                }
                else if (substr(rest, 1, 2) == "//") break
                else if (c == "\"") in_string = 1
                else if (match(rest, /^\047(\\.|[^\\\047])\047/)) i += RLENGTH - 1
                else if (c == "{") { change++; opened = 1 }
                else if (c == "}") change--
            }
            return change
        }
        { text[NR] = $0 }
        END {
            first = target
            while (first > 1 && text[first - 1] ~ /^[ \t]*(\/\/|#\[)/) first--
            depth = 0
            for (last = target; last <= NR; last++) {
                depth += depth_of(text[last])
                if (opened && depth == 0) break
            }
            if (last < NR && text[last + 1] ~ /^[ \t]*$/) last++
            for (i = 1; i <= NR; i++) if (i < first || i > last) print text[i]
        }
    ' "$file" > "$file.new"
    mv "$file.new" "$file"
    echo "removed $name from $file"
done

# What does not build is not proposed; warnings are for others to mend.
if ! said=$(cargo check --quiet --offline --all-targets 2>&1); then
    echo "$said" >&2
    exit 1
fi
