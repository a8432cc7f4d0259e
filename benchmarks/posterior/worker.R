# Posteriors of rstanarm, in a process of their own: read a task, fit, write what it took.
# Rscript --vanilla worker.R FOLDER; what is in the folder, benchmarks/posterior/runner.py says.
# It is started from the root of the repository.

source("benchmarks/measure.R")
folder <- commandArgs(trailingOnly = TRUE)[1]
task <- as.list(read.dcf(file.path(folder, "task.dcf"))[1, ])
number <- function(name) as.numeric(task[[name]])

# (iteration, chain, parameter), without the effects.
outer_array <- function(fit) {
  draws <- as.array(fit)
  draws[, , !grepl("^b\\[", dimnames(draws)[[3]]), drop = FALSE]
}

draw <- function(data) {
  fit <- rstanarm::stan_glmer(
    as.formula(task$formula), data, family = task$family, chains = number("chains"),
    iter = number("tune") + number("draws"), warmup = number("tune"), cores = number("cores"),
    seed = number("seed"), refresh = 0
  )
  print(summary(fit, pars = dimnames(outer_array(fit))[[3]]))
  fit
}

# NumPy's own format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
write_npy <- function(values, path) {
  shape <- paste(dim(values), collapse = ", ")
  header <- sprintf("{'descr': '<f8', 'fortran_order': True, 'shape': (%s), }", shape)
  header <- paste0(formatC(header, width = -117), "\n")
  file <- file(path, "wb")
  on.exit(close(file))
  writeBin(c(as.raw(0x93), charToRaw("NUMPY"), as.raw(c(1, 0))), file)
  writeBin(nchar(header), file, size = 2, endian = "little")
  writeBin(charToRaw(header), file)
  writeBin(as.vector(values), file, endian = "little")
}

data <- read_table(folder)
suppressPackageStartupMessages(library(rstanarm))
invisible(gc())
forget_peak()
fits <- character()
spent <- 0
while (length(fits) == 0 || (spent < number("patience") && length(fits) < number("most_fits"))) {
  cpu <- processor_seconds()
  wall <- as.numeric(Sys.time())
  fit <- draw(data)
  now <- as.numeric(Sys.time())
  cpu <- processor_seconds() - cpu
  # By Stan's own clock, of the processor. Chains that run at once have processes that are not
  # counted as our children.
  sampling <- sum(rstan::get_elapsed_time(fit$stanfit))
  if (min(number("cores"), number("chains")) > 1) cpu <- cpu + sampling
  if (length(fits) == 0) {
    peak <- peak_bytes()
    from_start <- now - number("spawned")
  }
  fits <- c(fits, sprintf("[%.6f, %.6f, %.6f]", cpu, now - wall, sampling))
  spent <- spent + now - wall
}
write_npy(aperm(outer_array(fit), c(2, 1, 3)), file.path(folder, "draws.npy"))
writeLines(sprintf(
  "{\"fits\": [%s], \"from_start\": %.6f, \"peak\": %s, \"version\": %s}",
  paste(fits, collapse = ", "), from_start, peak,
  quote_json(as.character(packageVersion("rstanarm")))
), file.path(folder, "report.json"))
