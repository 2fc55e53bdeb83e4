#!/bin/sh
# Documents the public functions that the compiler reports as undocumented, from their names and signatures.
set -eu

found=$(cargo rustc --quiet --offline --lib --message-format short -- -W missing-docs 2>&1 |
    sed -nE 's/^(.*\.rs):([0-9]+):[0-9]+: warning: missing documentation for an? (function|method|associated function)$/\1 \2/p' |
    sort -u -k1,1 -k2,2n)
if [ -z "$found" ]; then
    echo "every public function is documented"
    exit 0
fi

for file in $(echo "$found" | sed 's/ .*//' | sort -u); do
    lines=$(echo "$found" | awk -v file="$file" '$1 == file { printf " %s ", $2 }')
    awk -v lines="$lines" '
        function words(name) {
            gsub(/_/, " ", name)
            return name
        }
        # A sentence for a function, from its name, arguments and what it answers.
        function sentence(line,    name, args, answer, arg, text, what) {
            match(line, /fn [a-z_0-9]+/)
            name = substr(line, RSTART + 3, RLENGTH - 3)
            args = line
            sub(/^[^(]*\(/, "", args)
            sub(/\) ->.*$/, "", args)
            sub(/\) \{.*$/, "", args)
            answer = line
            if (!sub(/^.*-> /, "", answer)) answer = ""
            sub(/ \{.*$/, "", answer)
            arg = args
            sub(/:.*$/, "", arg)
            what = owner == "" ? "value" : owner

            if (name ~ /^is_/) text = "Whether this " tolower(owner) " is " words(substr(name, 4)) "."
            else if (name ~ /^has_/) text = "Whether this " tolower(owner) " has " words(substr(name, 5)) "."
            else if (name ~ /^from_/) text = "Makes a [`" what "`] of " words(substr(name, 6)) "."
            else if (name == "new") text = "Makes a [`" what "`]."
            else if (name == "parse") text = "Reads a [`" what "`] from `" arg "`."
            else if (args ~ /^&?(mut )?self$/) text = "The " words(name) " of this " tolower(owner) "."
            else text = toupper(substr(words(name), 1, 1)) substr(words(name), 2) " of `" arg "`."

            if (answer ~ /^Result</) text = text " The error says what is wrong with `" arg "`."
            if (answer ~ /^Option</) text = text " Nothing where there is none."
            return text
        }
        /^impl/ {
            owner = $0
            sub(/ *\{.*$/, "", owner)
            sub(/^.* /, "", owner)
            sub(/<.*$/, "", owner)
        }
        /^}/ { owner = "" }
        index(lines, " " NR " ") {
            indent = $0
            sub(/[^ ].*$/, "", indent)
            print indent "/// " sentence($0)
        }
        { print }
    ' "$file" > "$file.new"
    mv "$file.new" "$file"
    echo "documented $(echo "$lines" | wc -w | tr -d ' ') functions in $file"
done

# What cannot be rendered is not proposed; other warnings are for others to mend.
if ! said=$(cargo doc --quiet --offline --no-deps 2>&1); then
    echo "$said" >&2
    exit 1
fi
