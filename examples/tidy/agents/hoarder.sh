#!/bin/sh
# Reads the sources into memory, and then twice as much of them, without end.
echo "loading the whole crate for analysis"
cat src/*.rs | awk '
    { all = all $0 "\n" }
    END {
        for (;;) {
            all = all all
            # A little time for each step, as reading would take.
            if (length(all) > 8000000) system("sleep 0.1")
        }
    }
'
