//! A simulated driver.
