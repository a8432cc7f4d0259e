# One model by glmmTMB, fitted small to load what is loaded once: arguments are the term, the table
# to measure and a small one. The last line is JSON.
suppressMessages(library(glmmTMB))
given <- commandArgs(TRUE)
prepared <- function(path) {
  data <- read.csv(path)
  data$one <- factor(1)
  if (!is.null(data$east)) data$place <- numFactor(data$east, data$north)
  data
}
formula <- as.formula(paste("count ~ x +", given[1]))
fitted_to <- function(data) glmmTMB(formula, data, family = poisson)
invisible(suppressWarnings(fitted_to(prepared(given[3]))))
data <- prepared(given[2])
began <- proc.time()
fit <- suppressWarnings(fitted_to(data))
took <- proc.time() - began
sd <- attr(VarCorr(fit)$cond$one, "stddev")[1]
cat(sprintf('{"cpu": %.6g, "wall": %.6g, "sd": %.6g, "loglik": %.10g}\n',
            took[1] + took[2], took[3], sd, as.numeric(logLik(fit))))
