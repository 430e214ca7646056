"""What all pages share: signing in, errors, security headers, languages, formats."""
