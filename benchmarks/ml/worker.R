# Fits of lme4 and glmmTMB, in a process of their own: read a task, fit, write what it took.
# Rscript --vanilla worker.R FOLDER; what is in the folder, benchmarks/ml/runner.py says.
# It is started from the root of the repository.

source("benchmarks/measure.R")
folder <- commandArgs(trailingOnly = TRUE)[1]
task <- as.list(read.dcf(file.path(folder, "task.dcf"))[1, ])

fit_lme4 <- function(data) {
  reml <- task$method == "reml"
  fit <- if (task$family == "gaussian") {
    lme4::lmer(as.formula(task$formula), data, REML = reml)
  } else {
    lme4::glmer(as.formula(task$formula), data, family = task$family,
                nAGQ = as.integer(task$nAGQ))
  }
  print(summary(fit), correlation = FALSE)
  list(loglik = as.numeric(logLik(fit)),
       words = paste(unlist(fit@optinfo$conv$lme4$messages), collapse = "; "))
}

fit_glmmTMB <- function(data) {
  inflation <- if (is.null(task$ziformula)) "~0" else task$ziformula
  fit <- glmmTMB::glmmTMB(as.formula(task$formula), data, family = task$family,
                          ziformula = as.formula(inflation), REML = task$method == "reml")
  print(summary(fit))
  good <- fit$fit$convergence == 0 && isTRUE(fit$sdr$pdHess)
  list(loglik = as.numeric(logLik(fit)), words = if (good) "" else fit$fit$message)
}

data <- read_table(folder)
suppressPackageStartupMessages(library(task$side, character.only = TRUE))
invisible(gc())
forget_peak()
fits <- character()
spent <- 0
while (length(fits) == 0 ||
       (spent < as.numeric(task$patience) && length(fits) < as.integer(task$most_fits))) {
  cpu <- processor_seconds()
  wall <- as.numeric(Sys.time())
  found <- switch(task$side, lme4 = fit_lme4(data), glmmTMB = fit_glmmTMB(data))
  wall <- as.numeric(Sys.time()) - wall
  cpu <- processor_seconds() - cpu
  if (length(fits) == 0) peak <- peak_bytes()
  fits <- c(fits, sprintf("[%.6f, %.6f]", cpu, wall))
  spent <- spent + wall
}
number <- if (is.finite(found$loglik)) sprintf("%.12g", found$loglik) else "null"
writeLines(sprintf(
  "{\"fits\": [%s], \"loglik\": %s, \"words\": %s, \"peak\": %s, \"version\": %s}",
  paste(fits, collapse = ", "), number, quote_json(found$words), peak,
  quote_json(as.character(packageVersion(task$side)))
), file.path(folder, "report.json"))
