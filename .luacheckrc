std = "min"
max_line_length = 100
exclude_files = { ".build", ".rocks" }
read_globals = { "jit", "vim" }

files["bench"] = { std = "max" }
files["examples"] = { std = "max", globals = { "vim" } }
files["spec"] = { std = "max+busted", globals = { "vim" } }
files["test"] = { std = "max" }
files["*.rockspec"] = { std = "rockspec" }
