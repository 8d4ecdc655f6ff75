"""The five stories, told over the SDK with real guests and real small repositories."""
