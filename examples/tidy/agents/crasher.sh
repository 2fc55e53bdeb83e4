#!/bin/sh
# Writes an index of the modules. The first attempt is killed half way.
set -eu

mkdir -p docs
index=docs/modules.md
printf '# Modules\n\n' > "$index"
sed -n 's/^pub mod \(.*\);$/\1/p' src/lib.rs | while read -r module; do
    about=$(sed -n 's/^\/\/! \(.*\)$/\1/p' "src/$module.rs" | head -n 1)
    echo "- \`$module\`: $about" >> "$index"
    if [ "${QUORATE_ATTEMPT:-2}" = 1 ] && [ "$(wc -l < "$index")" -ge 4 ]; then
        echo "wrote half of $index" >&2
        kill -9 $$
        exit 1
    fi
done
echo "wrote $index"
