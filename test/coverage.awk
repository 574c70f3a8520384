# Adds up what `gcov --stdout --branch-probabilities --branch-counts` prints for several
# programs: for each file of src, the share of lines and of branches that were reached. Then
# prints the lines that were not, and fails if there are any. A comment in a block that says
# "no coverage" and why excuses the rest of the block; above a function, all of it.

/:Source:/ {
  file = $0
  sub(/.*:Source:/, "", file)
  wanted = sub(/.*src\//, "src/", file) || file ~ /^src\//
  line = 0
}

!wanted { next }

/^ *(-|#####|=====|[0-9]+\*?): *[1-9][0-9]*:/ {
  split($0, part, ":")
  line = part[2] + 0
  branches = 0
  key = file ":" line
  begins = /\/\*.*[Nn]o coverage/
  if (begins) excused = 1
  if (excused) excuse[key] = 1
  if (/^[^:]*:[^:]*: *}/ && !begins) excused = 0
  if (part[1] ~ /-/) next
  if (key in excuse) next # gcov lists a function again, without what is above it
  lines[key] = file
  text[key] = substr($0, index($0, part[2] ":") + length(part[2]) + 1)
  if (part[1] !~ /#|=/) hit[key] = 1
}

/^branch/ && !(key in excuse) {
  key = file ":" line ":" branches++
  branch[key] = file
  if ($3 == "taken" && $4 != 0) taken[key] = 1
}

END {
  for (key in lines) { all[lines[key]]++; if (key in hit) reached[lines[key]]++ }
  for (key in branch) { ways[branch[key]]++; if (key in taken) gone[branch[key]]++ }
  for (file in all) {
    printf "%-18s %4d of %4d lines, %4d of %4d branches\n", file, reached[file], all[file],
      gone[file], ways[file] | "sort"
    l += all[file]; r += reached[file]; w += ways[file]; g += gone[file]
  }
  close("sort")
  printf "%-18s %.1f%% of %d lines, %.1f%% of %d branches\n", "all", 100 * r / l, l, 100 * g / w, w
  for (key in lines)
    if (!(key in hit)) {
      print key ":" text[key] | "sort -t: -k1,1 -k2,2n"
      missed = 1
    }
  close("sort -t: -k1,1 -k2,2n")
  exit missed
}
