# Finds private functions of the same name and text at the top level of two files.
# Prints a line for each: name, first file, second file.
FNR == 1 { inside = "" }
/^fn [a-z_0-9]+/ {
    inside = $0
    sub(/^fn /, "", inside)
    sub(/[^a-z_0-9].*$/, "", inside)
    body = ""
}
inside != "" { body = body $0 "\n" }
/^}/ && inside != "" {
    key = inside SUBSEP body
    if (key in owner) print inside, owner[key], FILENAME
    else owner[key] = FILENAME
    inside = ""
}
