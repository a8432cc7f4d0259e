# What the workers in R have in common: the table they are given, and what a fit took.
#
# Nothing but base R, so that any installation of R will do.

read_table <- function(folder) {
  levels <- list.files(file.path(folder, "levels"), full.names = TRUE)
  names(levels) <- sub("\\.txt$", "", basename(levels))
  classes <- sapply(levels, function(path) "character")
  data <- read.csv(file.path(folder, "table.csv"), check.names = FALSE,
                   colClasses = if (length(classes)) classes else NA)
  for (name in names(levels)) {
    data[[name]] <- factor(data[[name]], levels = readLines(levels[[name]]))
  }
  data
}

processor_seconds <- function() sum(proc.time()[c(1, 2, 4, 5)], na.rm = TRUE)

peak_bytes <- function() {
  if (!file.exists("/proc/self/status")) return("null")
  line <- grep("^VmHWM:", readLines("/proc/self/status"), value = TRUE)
  sprintf("%.0f", 1024 * as.numeric(gsub("[^0-9]", "", line)))
}

# Makes the peak start from what is held now; a kernel may not allow it, and then it does not.
forget_peak <- function() {
  try(suppressWarnings(cat("5", file = "/proc/self/clear_refs")), silent = TRUE)
}

quote_json <- function(text) {
  text <- gsub("[[:space:]]+", " ", gsub("[\"\\\\]", "'", text))
  paste0("\"", text, "\"")
}
