---In place of the module of this name, which is written in C and not built.
return {
  isatty = function()
    return false
  end,
}
