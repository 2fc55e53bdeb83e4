#!/bin/sh
# Writes tests for public functions that no test mentions, where the signature alone tells properties that must hold.
set -eu

package=$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

# Everything that is a test: the files in tests/, and what follows `#[cfg(test)]` in a module.
tests=$(
    cat tests/*.rs
    for file in src/*.rs; do
        sed -n '/^#\[cfg(test)\]/,$p' "$file"
    done
)

for file in src/*.rs; do
    module=$(basename "$file" .rs)
    # Functions that make one number of a list of numbers.
    sed -n '/^#\[cfg(test)\]/,$d; s/^pub fn \([a-z_0-9]*\)(\([a-z_]*\): &\[i64\]) -> Option<i64>.*/\1/p' "$file" |
        while read -r name; do
            if echo "$tests" | grep -Eq "(^|[^a-z_0-9])$name\\("; then
                continue
            fi
            cat > "tests/$name.rs" << EOF
//! What holds for \`$module::$name\` whatever the values are.

use $package::$module::$name;

/// Lists of 1 to 64 values, the same in every run.
fn lists() -> Vec<Vec<i64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (1..=64)
        .map(|len| (0..len).map(|_| (next() % 2001) as i64 - 1000).collect())
        .collect()
}

#[test]
fn no_values_have_no_$name() {
    assert_eq!($name(&[]), None);
}

#[test]
fn the_${name}_of_one_value_is_that_value() {
    for value in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!($name(&[value]), Some(value));
    }
}

#[test]
fn the_${name}_lies_between_the_smallest_and_the_largest_value() {
    for list in lists() {
        let found = $name(&list);
        assert!(found >= list.iter().min().copied(), "{found:?} of {list:?}");
        assert!(found <= list.iter().max().copied(), "{found:?} of {list:?}");
    }
}

#[test]
fn the_${name}_does_not_depend_on_the_order() {
    for list in lists() {
        let reversed: Vec<i64> = list.iter().rev().copied().collect();
        assert_eq!($name(&list), $name(&reversed), "{list:?}");
    }
}
EOF
            # A property that does not hold is no property of this function: nothing is proposed then.
            if cargo test --quiet --offline --test "$name" > /dev/null 2>&1; then
                echo "wrote tests/$name.rs for $module::$name"
            else
                rm "tests/$name.rs"
                echo "$module::$name is no average of its values: left without a test"
            fi
        done
done
